complete --keep-order --exclusive --command prismq --arguments "(PRISMQ_COMPLETE=fish prismq -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
