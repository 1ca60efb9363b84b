"""Expert perfusion maps from a raw DSC bolus film: data, classical route, networks and metrics."""

__version__ = "0.1.0"
