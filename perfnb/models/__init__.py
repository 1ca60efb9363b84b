"""The networks of pix2pix and temp-pix2pix, their training and their use."""
