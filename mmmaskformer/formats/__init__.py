"""Reading and writing of file formats, each in one place."""
