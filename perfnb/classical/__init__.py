"""The classical route: from signal to maps by deconvolution."""
