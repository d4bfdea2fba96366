"""The nodes, a file for each step of a photo's way."""

from .judging import EstimateQuality, SkipIfGood
from .loading import LoadJPEG, LoadJPEGFolder
from .models import LoadModel
from .restoring import RestoreJPEG
from .saving import SaveJPEG

NODES = (LoadJPEG, LoadJPEGFolder, LoadModel, EstimateQuality, RestoreJPEG, SkipIfGood, SaveJPEG)
