"""One module per dataset: from its files, as its authors ship them, to samples."""
