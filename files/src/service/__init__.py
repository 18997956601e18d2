"""What every service of the site has of its host: settings from its environment, a log of lines, systemd's notices."""
