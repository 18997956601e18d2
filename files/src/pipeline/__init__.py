"""What the services of the pipeline share: they follow an Orthanc's studies, and work on each until nothing is left to do."""
