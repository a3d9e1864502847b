"""Names of devices on the command line."""

import torch


def resolve_device(device: str) -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:i`` means here.

    Raises
    ------
    ValueError
        If it is none of these, or CUDA was asked for and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        return torch.device("cpu")
    name, colon, index = device.partition(":")
    if name != "cuda" or (bool(colon) and not index.isdecimal()):
        raise ValueError(f"device: expected auto, cpu, cuda or cuda:i, got {device!r}")
    n_here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= n_here:
        raise ValueError(f"device: expected one of {n_here} CUDA devices here, got {device}")
    return torch.device(device)
