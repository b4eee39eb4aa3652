"""Reading data: sources, layouts, roles of columns, languages, final answers."""
