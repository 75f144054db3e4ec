"""Files become uint8 tensors, tensors become batches."""
