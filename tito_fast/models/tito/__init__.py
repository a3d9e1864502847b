"""TITO: a flow between a normal density and the positions one lag later, given the positions now."""
