"""One last complete copy of an account, on top of the tap.

`writer.py` and `folder.py` make the copy; everything else is made from the copy alone.
"""
