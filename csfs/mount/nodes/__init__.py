"""One class per kind of file: what each does when it is asked."""
