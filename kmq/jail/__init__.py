"""What may it not do? Rights that a process of ours gives up before it reads what strangers sent."""
