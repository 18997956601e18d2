"""A UPS-RS worklist service (PS3.18 chapter 11, PS3.4 annex CC) on PostgreSQL."""
