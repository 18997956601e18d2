"""A real nginx with the locations of the site's role, for the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import requests
import yaml
from jinja2 import Environment, FileSystemLoader
from servers import free_port, stop, wait_for_answer

_ROLE = Path(__file__).parents[2] / "roles/nginx"
_CONFIGURATION = """
{% macro stores_at_a_time() %}{% endmacro %}
daemon off;
pid {{ directory }}/nginx.pid;
error_log {{ directory }}/nginx.log;
worker_processes 2;
events {}
http {
    access_log off;
    sendfile on;
    client_body_temp_path {{ directory }}/body;
    proxy_temp_path {{ directory }}/proxy;
    fastcgi_temp_path {{ directory }}/fastcgi;
    uwsgi_temp_path {{ directory }}/uwsgi;
    scgi_temp_path {{ directory }}/scgi;
    # What is let through is roles/nginx/tests/test_resources.py's to show.
    map "" $has_needless_body {
        default "";
    }
    map "" $allowed_methods {
        default "";
    }
{% include "static-dicomweb-maps.conf.j2" %}
    server {
        listen 127.0.0.1:{{ port }};
        location = /ping {
            return 204;
        }
{% include "static-dicomweb-locations.conf.j2" %}
{% if archive %}
        location /dicom-web/ {
            proxy_pass {{ archive }}/;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Prefix /dicom-web;
        }
{% endif %}
{% if viewer %}
        location / {
            include /etc/nginx/mime.types;
            root {{ viewer }};
            try_files $uri /index.html;
        }
        location = /app-config.js {
            root {{ directory }};
            default_type text/javascript;
        }
{% endif %}
    }
}
"""


class Nginx:
    """An nginx on loopback that serves a tree."""

    def __init__(
        self, directory: Path, root: Path, prefix: str = "/static-dicomweb", server: str = "", viewer: str = "", archive: str = ""
    ) -> None:
        # The tree may be below a directory of root's alone: its workers are root's, too, where the tests are.
        self.port = free_port()
        self.prefix = prefix
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = requests.Session()
        self.session.trust_env = False
        self.log = directory / "nginx.log"
        variables: dict[str, Any] = yaml.safe_load((_ROLE / "vars/main/main.yml").read_text())
        variables |= yaml.safe_load((_ROLE / "defaults/main.yml").read_text())
        variables |= {
            "nginx_access": "none",
            "directory": directory,
            "port": self.port,
            "nginx_static_root": root,
            "nginx_static_prefix": prefix,
            "nginx_static_url": server,
            "viewer": viewer,
            "archive": archive,
        }
        # As Ansible has it.
        templates = Environment(loader=FileSystemLoader(_ROLE / "templates"), trim_blocks=True, keep_trailing_newline=True)
        configuration = directory / "nginx.conf"
        configuration.write_text("user root;\n" + templates.from_string(_CONFIGURATION).render(variables))
        self.process = subprocess.Popen(["/usr/sbin/nginx", "-p", str(directory), "-c", str(configuration)])
        wait_for_answer(self.process, self.log, lambda: self.session.get(f"{self.url}/ping", timeout=5))

    def get(self, path: str, accept: str = "*/*", **headers: str) -> requests.Response:
        """Return the answer for a path below the tree's address."""
        return self.session.get(f"{self.url}{self.prefix}{path}", headers={"Accept": accept} | headers, timeout=60)

    def stop(self) -> None:
        stop(self.process, self.log)
