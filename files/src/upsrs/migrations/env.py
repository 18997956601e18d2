"""Applies the steps over the connection that `database.migrate` opened."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], version_table="schema_version", transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
