"""``python -m tools.counterparts SETS… -o OUT``: images that styles lack, drawn from other styles.

A symbol that was never seen in a style is drawn in it as a mean of what is known of both. Its
images in *other* styles say more: where things are, and what colours they have. Here a network
learns to draw a symbol in one style from its images in all others, mirrored, distorted and with
colours exchanged alike in all of them, so that it learns styles rather than symbols; beside them it
is shown a first guess, which is made of how the style draws like symbols. Then it draws what the
styles lack: symbols that their sets have not, or that are held out of them. What it draws is right
more often than sharp; with ``--flow`` a flow that knows the styles draws it again, from there on.
``OUT`` has an emoji set for each style, whose images `tools.flow_on_gpu` takes beside the real
ones.

Real images that are held out are never read.
"""
