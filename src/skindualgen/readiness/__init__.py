"""Is a prepared data set ready to be trained on, or for a benchmark?"""
