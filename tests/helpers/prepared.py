"""What the server of children.py does once: it imports the program and reads the digits."""

import children  # noqa: F401
import main  # noqa: F401
from input import places
from kept_digits import kept_digits

places.digits = kept_digits()
places.find("digits", None).read(1)
