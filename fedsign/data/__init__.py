"""Datasets: files to tensors on the device, batches and augmentation."""
