"""What `outwork worker contrib.kinds_for_a_worker` runs."""

from contrib.three_kinds import Kinds

kinds = Kinds()
