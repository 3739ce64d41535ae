"""What a file costs on this machine: measured in the runtime, or counted from the file."""
