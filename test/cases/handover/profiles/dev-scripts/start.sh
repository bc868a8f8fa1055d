#!/bin/sh
# docker compose -f x
docker compose logs -f gameserver
FILES="-f docker-compose.yml -f docker-compose.dev.yml"
docker compose $FILES --profile development up -d
docker-compose -p x --file docker-compose.yml up
