"""The nodes, a file for each step of a photo's way."""

from .comparing import BeforeAfter
from .example import provide_examples
from .judging import EstimateQuality, SkipIfGood
from .loading import LoadJPEG, LoadJPEGFolder
from .models import LoadModel
from .restoring import RestoreJPEG
from .saving import SaveJPEG

NODES = (LoadJPEG, LoadJPEGFolder, LoadModel, EstimateQuality, RestoreJPEG, SkipIfGood, BeforeAfter, SaveJPEG)

provide_examples()
