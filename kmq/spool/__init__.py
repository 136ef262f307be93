"""Where is it? Layout, journal, store, recovery, status files: everything below the spool folder."""
