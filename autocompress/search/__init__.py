"""The search: what is asked, what candidates cost, who trains them, and which are finished.

``setting`` what every stage works with · ``space`` and ``parameters`` from YAML to recipes · ``ladder`` what can be
reached · ``controls`` the simple alternatives · ``study`` Optuna · ``loop`` the rounds · ``finish`` what is returned:
``recoveries`` what there is of it, ``calm_latency`` what it takes ·
``goal`` and ``selection`` what is better · ``launcher`` and ``launch_ray`` where work runs.

A round builds its candidates, measures all of their untrained files together while nothing trains, then trains those
that fit. So measuring and training alternate, and no candidate that cannot fit is ever trained.
"""
