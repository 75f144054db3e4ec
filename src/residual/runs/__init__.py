"""The run folder: the contract between training and all that comes after it."""
