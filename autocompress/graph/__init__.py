"""What a network is made of: layers, stages, coupled channels; and the network as data."""
