"""What a training does when memory or numbers fail, and how exactly it computes."""
