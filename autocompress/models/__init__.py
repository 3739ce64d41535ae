"""Models by name: built, given weights, checked, and asked for their configuration.

Nothing is imported here, so that ``models.source`` stays plain facts. timm is known to ``timm_zoo`` alone.
"""
