"""What the images of a source are like before anything is trained on them: recognizability and diversity."""
