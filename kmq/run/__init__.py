"""Who does it when? Scheduler, workers, receivers, supervisor."""
