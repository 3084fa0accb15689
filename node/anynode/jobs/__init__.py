"""Jobs as data: graphs, job files, export and templates."""
