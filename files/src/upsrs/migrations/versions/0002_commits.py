"""Tokens of committed changes, by which a change whose answer was lost is known to be there."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table of tokens."""
    op.execute("CREATE TABLE commits (token uuid PRIMARY KEY)")
