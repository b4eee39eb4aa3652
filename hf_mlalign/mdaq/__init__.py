"""M-DaQ (arXiv 2509.15549): instruction data of high quality and diversity in any language."""
