"""Shared by all packages: atomic files, records, specs, imports, progress, tables, arguments."""
