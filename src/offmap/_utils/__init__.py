"""What every room uses: files that are whole, records, progress, tables, checks of arguments."""
