"""
A new selection rule in fifteen lines
=====================================

x
"""
import curtensor as ct
print(ct.compare)
