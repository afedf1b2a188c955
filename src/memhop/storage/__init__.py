"""Memories that grow: files larger than RAM, and a store on disk."""
