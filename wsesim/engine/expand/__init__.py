"""expand: kernels of a block -> TaskGraph. The only place where cost is written."""

from wsesim.engine.expand.segment import Segment as Segment
from wsesim.engine.expand.stage import expand_stage as expand_stage
from wsesim.engine.expand.transfer import expand_feedback as expand_feedback
from wsesim.engine.expand.transfer import expand_transfer as expand_transfer
from wsesim.engine.expand.transfer import transfer_ends as transfer_ends
