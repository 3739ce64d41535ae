"""A recipe for a budget: what each unit of the network may become, what that loses and costs, and the best selection.

``choices`` what a unit may become · ``table`` what each choice loses · ``sensitivity`` measures that, ``interpolate``
fills in what there was no time for, ``kept_losses`` keeps it · ``costs`` what it costs · ``solve`` the selection that
loses least within all budgets.
"""
