"""What every room uses: atomic files, records, specs, imports, progress, tables, arguments."""
