"""How long cosine transforms take. (calibration to come)"""
import math
from layers.cosine import split

def form(n, columns):
    import os
    f=os.environ.get("FORM")
    if f and not (f=="staged" and n%2): return f
    if n <= 96: return "direct"
    s = split(n)
    if s and s[0]+2*s[1] < 160: return "staged"
    return "fft"
