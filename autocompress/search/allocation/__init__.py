"""A recipe for a budget: what each unit of the network may become, what that loses and costs, and the best selection.

``choices`` what a unit may become · ``table`` what each choice loses: ``sensitivity`` measures that, ``interpolate``
fills in what there was no time for, ``kept_losses`` keeps it, ``correction`` sets it right by results ·
``network_costs`` what selections cost by calculation, from ``parts``, ``layer_bytes`` and ``layer_times``, ``measured``
those of a network from its own files · ``costs`` the same corrected by measured files · ``solve`` the selection that
loses least by sums, ``prices`` what its limits are worth · ``exchange`` and ``allocate`` the one that does by true
costs, ``cheapest`` the one that costs least, ``uniform_selections`` what they must beat.
"""
