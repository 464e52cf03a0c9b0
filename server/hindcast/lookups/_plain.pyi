# The compiled twin has the types of the Python one.
from hindcast.lookups.python_plain import Answers as Answers
from hindcast.lookups.python_plain import Frames as Frames
from hindcast.lookups.python_plain import Heads as Heads
from hindcast.lookups.python_plain import Reader as Reader
from hindcast.lookups.python_plain import integers as integers
from hindcast.lookups.python_plain import texts as texts
