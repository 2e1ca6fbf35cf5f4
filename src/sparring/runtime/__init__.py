"""The ground floor: files, errors, seeds, devices, memory, progress. Imports nothing else of Sparring."""
