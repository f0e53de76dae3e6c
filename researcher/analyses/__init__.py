"""What is made of merged answers: each analysis's questions, and its finding."""
