"""What the gate does to a model update before it leaves, and to weights before they are used."""
