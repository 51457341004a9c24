"""Many processes and machines: a scorer that any engine can call, and Ray for what takes days.

Nothing here is an engine of its own. :class:`Scorer` is a function that can be sent anywhere by the
path of a guard; :func:`score`, :func:`fit`, :func:`calibrate` and :class:`Passes` use
actors of Ray.
"""

from offmap.scale.fitting import calibrate, fit
from offmap.scale.passes import Passes
from offmap.scale.scorer import Scorer
from offmap.scale.scoring import score

__all__ = ["Passes", "Scorer", "calibrate", "fit", "score"]
