"""What every floor above stands on: files, errors, seeds, devices, memory, progress. Imports nothing of Sparring."""
