"""What a folder of sentence-transformers says of how vectors of texts are made, read and written."""
