"""A recipe for a budget: what each unit of the network may become, what that loses and costs, and the best selection.

``choices`` what a unit may become · ``table`` what each choice loses, measured · ``costs`` what it costs · ``solve`` the
selection that loses least within all budgets.
"""
