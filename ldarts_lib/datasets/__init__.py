"""Images and texts as tensors on the device."""
