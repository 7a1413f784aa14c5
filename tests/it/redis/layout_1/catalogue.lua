-- The catalogue: its generation, handlers with their entries, the retired ones.
return {
    call('HGET', layout, 'generation') or '0',
    call('HGETALL', base .. 'handlers'),
    call('SMEMBERS', base .. 'retired'),
}
